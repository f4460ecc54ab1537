"""Who is trained on, who is held out, and which half of the held-out ones is development."""
import hashlib, numpy as np
def h(s): return int(hashlib.sha256(str(s).encode()).hexdigest()[:8], 16)
def ck_held(subject): return np.array([h('ck' + s) % 3 == 0 for s in subject])
def dev(keys, salt): return np.array([h(salt + str(k)) % 2 == 0 for k in keys])
MUX_TRAIN = ('dwdii', '302')
