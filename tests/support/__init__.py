"""What the tests have in common. No test imports another test; they import from here."""
