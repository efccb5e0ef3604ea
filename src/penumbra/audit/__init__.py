"""Following each displayed number to its bytes, and proving that nothing on the way was changed.

Nothing here makes a result, and nothing that makes results imports it. Where to find what, from the ground up:

============================ ======================================================================================
what there is                :mod:`.ledger` (all records, and how they hang together), :mod:`.numbers` (all displayed
                             numbers), :mod:`.sources` (where raw files came from)
what a number rests on       :mod:`.dependence`, in the words of :mod:`.direct`; :mod:`.taken`: what it takes of each
                             file that it names; :mod:`.dependents`: the other way round
``audit list``, ``trace``    :mod:`.trace`
``audit verify``             :mod:`.verify` asks :mod:`.artefacts` (bytes), :mod:`.chain` (records, and the head),
                             :mod:`.kept` (what is kept besides), :mod:`.recomputed` (numbers from rows) and
                             :mod:`.deep` (rows from predictions); :mod:`.faults` is what they find
``audit check``              :mod:`.check` asks :mod:`.commits` and :mod:`.snakemake_metadata`; :mod:`.finding` is
                             what they find
``audit diff``               :mod:`.diff` compares two :mod:`.sides`; :mod:`.parting` is where trails part
``audit export``             :mod:`.export`
the target ``final``         :mod:`.seal`
what is printed              :mod:`.show`; the commands themselves are in :mod:`penumbra.cli`
============================ ======================================================================================
"""
