"""What ops become: for each target a table, kind of op -> emitter of MAX's graph builder."""
