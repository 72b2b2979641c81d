"""The pages in the browser: they work without JavaScript and fetch nothing from other hosts."""
