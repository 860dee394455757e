from kovilt.cli import progress


def test_a_line_every_tenth_with_the_rate_since_nothing_was_done(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    tell = progress.progress_line('looking at')
    now[0] = 100.0  # of other work before
    tell(0, 40)
    for done in range(1, 41):
        now[0] += 0.5
        tell(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == 'looking at 4/40, 2 images/s, 18 s left'
    assert lines[-1] == 'looking at 40/40, 2 images/s, 0 s left'
