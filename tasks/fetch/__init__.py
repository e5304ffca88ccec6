"""Fetch: what lies on other machines comes into the store as it is; nothing after it needs the network."""
