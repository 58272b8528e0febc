"""What the tests put into GIMP's Python and into the plug-in's: it runs snippets that a test asks for."""
