"""Key figures: active users, unique users per key, funnels, an A/B test, click-through."""
