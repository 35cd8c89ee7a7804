"""The Wyoming protocol on TCP, by which Home Assistant and its satellites ask for the text of what was said."""
