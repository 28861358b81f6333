"""The core of the zoo: modalities, objectives, protocols. It knows no domain."""

ZOO = "domain-zoo"
