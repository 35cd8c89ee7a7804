"""The tools that look into a spec or an artifact, named as their commands: inspect, bench and verify."""
