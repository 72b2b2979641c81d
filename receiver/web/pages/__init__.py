"""The pages for people: they work without JavaScript, and nothing is fetched from other hosts."""
