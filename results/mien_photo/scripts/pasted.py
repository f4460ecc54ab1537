import sys; sys.path.insert(0,'.'); sys.path.insert(0,'./benchmarks')
import numpy as np, cv2, dataclasses, pyarrow.parquet as pq, framing
from mien.detect import load_detector; from mien.preprocess import crop_face; from mien.modelinfo import ModelInfo; from mien.emotions import FER2013
cv2.setNumThreads(1); K=[(1,0),(.9,0),(1.1,0),(1.2,0),(1,.05),(1.1,.05),(.9,.05)]
I=[ModelInfo('x',FER2013,crop_scale=s,crop_shift_y=h) for s,h in K]; det=load_detector('yunet')
l=pq.read_table('data/london.parquet').to_pylist(); o=[]
for r in l:
    im=cv2.imdecode(np.frombuffer(r['image']['bytes'],np.uint8),1); f=det.detect(im)[0]; o.append([crop_face(im,f,i) for i in I])
np.save('london_crops.npy',np.array(o)); print('london',flush=True)
f=np.load('fer.npz'); x=f['x'][f['usage']=='PublicTest']; rng=np.random.default_rng(1); o=[]; ok=[]
for a in x:
    c,_=framing.paste(a,rng); d=det.detect(c); ok.append(bool(d)); o.append([crop_face(c,d[0],i) for i in I] if d else [a]*len(I))
np.savez('pasted.npz',x=np.array(o),ok=np.array(ok)); print(np.mean(ok))
