"""Data of mien_photo: every face on a 72x72 grey canvas whose middle 48x48 is FER2013's frame."""
import sys, hashlib, cv2, numpy as np, pyarrow.parquet as pq
sys.path.insert(0, '.')
from mien.detect import load_detector
from mien.preprocess import face_square
cv2.setNumThreads(1)
D = 'data/'
NAMES = ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral']
MAP = {'anger': 0, 'disgust': 1, 'fear': 2, 'happiness': 3, 'happy': 3, 'sadness': 4, 'surprise': 5, 'neutral': 6, 'contempt': 7, 'angry': 0, 'sad': 4}
def h(s): return int(hashlib.sha256(s.encode()).hexdigest()[:8], 16)
def dec(r, flag=cv2.IMREAD_COLOR): return cv2.imdecode(np.frombuffer(r['image']['bytes'], np.uint8), flag)
def canvas(img, sq, ratio=1.5, size=72):
    g = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY) if img.ndim == 3 else img
    x, y = sq.center; side = sq.width * ratio; s = size / side
    # antialias: shrink the whole picture first where it is much larger
    if s < 1:
        f = max(s, 1e-3); g2 = cv2.resize(g, None, fx=f, fy=f, interpolation=cv2.INTER_AREA); fx = g2.shape[1]/g.shape[1]; fy = g2.shape[0]/g.shape[0]
        x, y, side = x*fx, y*fy, side*fx; g = g2; s = size / side
    m = np.array([[s, 0, (0.5-(x-side/2))*s-0.5], [0, s, (0.5-(y-side/2))*s-0.5]])
    return cv2.warpAffine(g, m, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
def boxes(rows, tag):
    det, det2 = load_detector('yunet'), load_detector('yunet', .0125, .3)
    out = []
    for i, r in enumerate(rows):
        img = dec(r); f = det.detect(img)
        if not f:
            p = cv2.copyMakeBorder(img, 40, 40, 40, 40, cv2.BORDER_REPLICATE); f = det2.detect(p); img = p
        out.append((canvas(img, face_square(f[0])), 1) if f else (canvas(img, type('S', (), {'center': (img.shape[1]/2, img.shape[0]/2), 'width': min(img.shape[:2])*.9})()), 0))
        if i % 2000 == 0: print(tag, i, flush=True)
    return np.stack([o[0] for o in out]), np.array([o[1] for o in out], bool)
def main():
    l = pq.read_table(D+'london.parquet').to_pylist(); C, ok = boxes(l, 'london')
    np.savez('out/photo/london.npz', x=C, ok=ok, y=np.array([MAP[r['emotion']] for r in l]), face=np.array([r['face_id'] for r in l]), gender=np.array([r['gender'] for r in l]), eth=np.array([r['ethnicity'] for r in l]))
    c = pq.read_table(D+'ckplus48.parquet').to_pylist()
    np.savez('out/photo/ck.npz', x=np.stack([dec(r, 0) for r in c]), y=np.array([MAP[r['emotion']] for r in c]), subject=np.array([r['subject'] for r in c]), seq=np.array([r['sequence'] for r in c]))
    t = pq.read_table(D+'fer2013.parquet').to_pylist()
    x = np.stack([dec(r, 0) for r in t]); votes = np.array([[v or 0 for v in (r['ferplus_'+k] for k in ('anger','disgust','fear','happiness','sadness','surprise','neutral','contempt','unknown','nf'))] for r in t], np.float32)
    np.savez('out/photo/fer.npz', x=x, y=np.array([r['emotion'] for r in t]), usage=np.array([r['usage'] for r in t]), votes=votes, lossless=np.array([r['lossless'] for r in t]))
    print('fer', x.shape, flush=True)
    m = pq.read_table(D+'muxspace.parquet').to_pylist(); C, ok = boxes(m, 'mux')
    np.savez('out/photo/mux.npz', x=C, ok=ok, y=np.array([MAP[r['emotion']] for r in m]), user=np.array([r['user_id'] for r in m]), name=np.array([r['file'] for r in m]))
    print('ok', ok.mean())
if __name__ == '__main__': main()
