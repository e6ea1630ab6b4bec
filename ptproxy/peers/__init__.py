"""What runs above the tunnel."""
