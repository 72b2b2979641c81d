"""What `interface.md` promises, tried from outside: over HTTP, on a scripted clock, against scripted providers."""
