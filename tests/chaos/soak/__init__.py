"""The soak: many people at work while at any moment something dies, hangs or is cut off.

`questions` are what they ask and what the provider is to do with it, `crowd` are the people, `monkey` does the damage,
`laws` is what has to be true afterwards, `report` says what happened. All draw from one seed. Processes, threads and
the network keep their own time, so the same seed gives the same people and the same faults, but not the same instants:
run it again a few times to see a failure again.
"""
