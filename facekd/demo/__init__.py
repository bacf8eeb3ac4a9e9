"""The browser demo: a page on loopback that detects, aligns, embeds and compares faces in the browser itself."""
