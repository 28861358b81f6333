"""Semantic localisation (SeLo): where in a large scene is what a sentence describes?"""
