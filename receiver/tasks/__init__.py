"""What awaits: the ways in of a task (orders, callbacks, checks, people) and the sweeps over what is due."""
