"""Music videos rendered for the demo and the tests: real files, made from latent factors that are known.

`latents` draws what a video is like, `music` and `pictures` turn that into samples and frames, `encode` into a file;
`python -m data.render` renders a whole set. This file plans one video and renders it: it writes that video.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.model import Render
from data.render import encode, latents, music, pictures


@dataclass(frozen=True)
class Video:
    """One video to be rendered. `frames / fps` is its duration in seconds, that of both streams."""

    index: int
    container: str
    fps: int
    frames: int
    song: latents.Song

    @property
    def video_id(self) -> str:
        return video_id(self.index)

    @property
    def name(self) -> str:
        """The file's name within its folder."""
        return f"{self.video_id}.{self.container}"

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


def video_id(index: int) -> str:
    """The id of the video with this number."""
    return f"song{index:05d}"


def plan(render: Render, index: int) -> Video:
    """The plan of video `index`: a pure function of the index and of `render`, but for how many there are.

    Every eighth video is WebM; frame rates are 12, sometimes 15 or 25 a second.
    """
    rng = latents.generator(render.seed, latents.PLAN, index)
    fps = int(rng.choice([12, 15, 25], p=[0.75, 0.2, 0.05]))
    shortest, longest = render.seconds
    return Video(
        index=index,
        container="webm" if index % 8 == 7 else "mp4",
        fps=fps,
        frames=max(1, round(rng.uniform(shortest, longest) * fps)),
        song=latents.draw(render.seed, index, render.correlation, render.inconsistency),
    )


def render_video(render: Render, index: int, folder: Path) -> Path:
    """Render video `index` into `folder` and return its path. Raises OSError when it cannot be written."""
    video = plan(render, index)
    rate = encode.CONTAINERS[video.container].rate
    sound = music.render(video.song.sound, video.seconds, rate, latents.generator(render.seed, latents.MUSIC, index))
    frames = pictures.frames(
        video.song.picture, video.frames, video.fps, latents.generator(render.seed, latents.SCENES, index)
    )
    path = folder / video.name
    encode.write(path, video.container, frames, video.fps, sound)
    return path
