"""The report's page: one HTML file that a browser works with offline, and what goes into it.

``columns``  typed columns as text, exact in both directions
``texts``    prompts and responses in compressed blocks, which the browser opens when one is shown or searched
``rollouts`` a run's files of rollouts, streamed into columns and blocks
``charts``   which charts are drawn of a run's metrics
``curves``   a run's metrics as columns, and what is drawn of them
``assemble`` the template, our scripts and styles and two libraries, made into one file
``serve``    the page of runs that go on, on this machine alone

``js/`` holds the page's own scripts: plain ES modules, put one after another by ``assemble``. ``vendor/`` holds uPlot
(MIT) and jsdiff (BSD-3-Clause) as they are published, each with its licence.

Whatever a run wrote is data: it goes into the page as escaped text, JSON or base64, and the scripts make text nodes of
it, never markup. The page's policy (``Content-Security-Policy``) runs no other script and loads nothing.
"""
