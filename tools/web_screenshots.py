"""Take the screenshots of the web page in docs/images: needs playwright and Chromium.

The photo is scikit-image's public-domain portrait; the webcam is a video of it, tilting and turning
away, so that the history has something to tell.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright
from skimage import data

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream"]
FLAGS += ["--use-fake-device-for-media-stream"]


def webcam_video(path: Path) -> None:
    """Twenty seconds at 15 frames a second, 640×480, as a motion JPEG."""
    portrait = np.ascontiguousarray(data.astronaut()[:384, :, ::-1])
    image = cv2.resize(portrait, (640, 480), interpolation=cv2.INTER_CUBIC)
    with path.open("wb") as stream:
        for number in range(300):
            t = number / 300 * 2 * math.pi
            turn = cv2.getRotationMatrix2D((285, 140), 9 * math.sin(2 * t), 1.25)
            turn[0, 2] += 30 + 14 * math.sin(t)
            turn[1, 2] += 55
            frame = cv2.warpAffine(image, turn, (640, 480), borderMode=cv2.BORDER_REPLICATE)
            blur = 5.2 * max(0.0, math.sin(3 * t)) ** 2
            if blur > 0.3:  # out of focus, as a webcam is when somebody moves
                frame = cv2.GaussianBlur(frame, (0, 0), blur)
            stream.write(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())


def main() -> None:
    """Start the server, take the three screenshots, stop it."""
    command = [sys.executable, "-m", "mien", "serve", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    url = server.stderr.readline().split("mien is at ")[1].split()[0]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
            webcam, photo = Path(folder) / "webcam.mjpeg", Path(folder) / "astronaut.jpg"
            webcam_video(webcam)
            cv2.imwrite(str(photo), data.astronaut()[:, :, ::-1])
            flags = [*FLAGS, f"--use-file-for-fake-video-capture={webcam}"]
            browser = driver.chromium.launch(executable_path=chromium, args=flags)
            wide, narrow = {"width": 1180, "height": 800}, {"width": 390, "height": 844}
            for name, scheme, size in (
                ("web-light", "light", wide),
                ("web-dark", "dark", wide),
                ("web-phone", "light", narrow),
            ):
                page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=1)
                page.goto(f"{url}?camera" if name == "web-dark" else url)
                if name != "web-dark":
                    page.locator("#files").set_input_files(str(photo))
                page.locator("#overlay rect.box").wait_for(timeout=60_000)
                page.wait_for_timeout(31_000 if name == "web-dark" else 1500)
                image = IMAGES / f"{name}.jpg"
                page.screenshot(path=image, type="jpeg", quality=88, full_page=True)
                print(f"wrote {image.name}, {image.stat().st_size // 1000} kB")
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.communicate(timeout=20)


if __name__ == "__main__":
    main()
