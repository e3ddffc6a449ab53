"""Texts of real failures under Ray 2.60 (paths and addresses shortened): what `traceback.format_exc` gives a driver."""

DRIVER = """Traceback (most recent call last):
  File "/app/train.py", line 29, in <module>
    ray.get(task.run.remote())
    ^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/venv/lib/python3.11/site-packages/ray/_private/auto_init_hook.py", line 22, in auto_init_wrapper
    return fn(*args, **kwargs)
           ^^^^^^^^^^^^^^^^^^^
  File "/venv/lib/python3.11/site-packages/ray/_private/worker.py", line 1053, in get_objects
    raise value.as_instanceof_cause()
"""

OUTER = """ray.exceptions.RayTaskError({error}): \x1b[36mray::Outer.run()\x1b[39m (pid=6993, ip=10.0.0.2, \
actor_id=74fb, repr=<train.Outer object at 0x7fc6>)
           ^^^^^^^^^^^^^^^^^^^
  File "/app/train.py", line 17, in run
    return ray.get(self.inner.score.remote())
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           ^^^^^^^^^^^^^^^^^^^
"""

INNER = """\x1b[36mray::Inner.score()\x1b[39m (pid=6994, ip=10.0.0.2, actor_id=396f, repr=<train.Inner object at 0x7f9>)
           ^^^^^^^^^^^^^^^^^^^^^^
"""

NESTED = f"""{DRIVER}{OUTER.format(error="KeyError")}ray.exceptions.RayTaskError(KeyError): {INNER}\
  File "/app/train.py", line 12, in score
    return rewards.score(x)
           ^^^^^^^^^^^^^^^^
  File "/app/rewards.py", line 2, in score
    return x["answer"]
           ~^^^^^^^^^^
KeyError: 'answer'
"""

CHAINED = f"""{DRIVER}{OUTER.format(error="RuntimeError")}ray.exceptions.RayTaskError(RuntimeError): {INNER}\
  File "/app/rewards.py", line 2, in score
    return x["answer"]
           ~^^^^^^^^^^
KeyError: 'answer'

The above exception was the direct cause of the following exception:

{INNER}\
  File "/app/train.py", line 10, in score
    raise RuntimeError(f"reward 'correct' failed on {{x}}") from e
RuntimeError: reward 'correct' failed on {{'a': 1}}
"""

CREATION = """Exception raised in creation task: The actor died because of an error raised in its creation task, \
\x1b[36mray::Dies.__init__()\x1b[39m (pid=7062, ip=10.0.0.2, actor_id=80fc, repr=<train.Dies object at 0x7fe4>)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/app/train.py", line 20, in __init__
    rewards.score({})
  File "/app/rewards.py", line 2, in score
    return x["answer"]
           ~^^^^^^^^^^
KeyError: 'answer'
"""

DIED = f"""{DRIVER}ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: Exit
\tpid: 7092
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR {"blah " * 200}
"""

HANDLING = """Traceback (most recent call last):
  File "/app/train.py", line 3, in load
    import flash
ModuleNotFoundError: No module named 'flash'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/train.py", line 9, in <module>
    load()
  File "/app/train.py", line 5, in load
    raise ValueError("no attention kernel")
ValueError: no attention kernel
"""
