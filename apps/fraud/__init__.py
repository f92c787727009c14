"""Fraud as it happens: card payments, clicks on ads, network connections."""
