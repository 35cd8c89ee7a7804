"""What looks at a spec or an artifact: inspect, bench and verify, named as the commands."""
