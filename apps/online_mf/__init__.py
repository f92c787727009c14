"""Online matrix factorisation of movie ratings on a stream loop."""
