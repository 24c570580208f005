"""Several machines: an existing engine places and restarts, the laws of bars make it simple."""
