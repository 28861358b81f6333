"""The built-in domains, one folder a plugin; found through the entry-point group `zoo.domains`."""

ZOO = "domain-zoo"
