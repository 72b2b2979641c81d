"""What `receiver doctor` finds, each with its remedy."""
