"""The sandbox keeps to the providers' documents, and makes exactly the trouble it is asked for."""
