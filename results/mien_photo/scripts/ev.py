"""python ev.py RUN: the dev half without corruption; --spoil with it."""
import sys, json, torch; sys.path.insert(0, 'out/photo'); import panel, deploy
torch.set_num_threads(1); run = sys.argv[1]; f, d = deploy.asker(run + '/ema.pt'); sp = '--spoil' in sys.argv
r = panel.measure(f, spoil=sp); n = f"{run.split('/')[-1]} epoch {d['epoch']} step {d['step']} p {d['progress']:.3f}"
print(panel.line(n, r), flush=True)
open(run + '/dev.jsonl', 'a').write(json.dumps({'epoch': d['epoch'], 'step': d['step'], 'progress': d['progress'], **r}) + '\n')
