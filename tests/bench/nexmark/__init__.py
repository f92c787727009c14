"""Nexmark: queries over the persons, auctions and bids of an auction house, as continuous queries over streams."""
