"""What runs inside the systems' own environments: their settings and the data they begin with."""
