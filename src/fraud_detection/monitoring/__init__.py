"""How the champion does at work, before and after its labels mature. For people to look at: no decision reads it."""
