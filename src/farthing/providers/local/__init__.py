"""The models that Farthing brings along: a chat model in a process of its own and an embedder in this one. Nothing leaves the machine."""
