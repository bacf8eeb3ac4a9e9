"""Several processes that train one model: who is who, what they tell each other, what is split among them."""
