"""The backends: for each a table, kind of op -> emitter, which adds the op to a MAX graph."""
