"""Gets the bytes of a picture from a request, or from an address where that is allowed."""
