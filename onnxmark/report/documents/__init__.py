"""The documents every report is rendered from: plain data, versioned, without time stamps.

Describing a result does not need the code that makes it: types are imported for the checker only, so that an audit does
not pay for loading what embeds or attacks.
"""
