"""The store on real database files: the door, the engines, the schema, the change feed, the queries."""
