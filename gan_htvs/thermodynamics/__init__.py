"""Reference phases, the convex hull and Pourbaix stability."""
