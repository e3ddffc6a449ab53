"""Tools that a model may call while it answers: what it is told of them, and the processes that compute them."""
