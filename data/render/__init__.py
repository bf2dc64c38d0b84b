"""Music videos rendered for the demo and the tests: real files, made from latent factors that are known.

`latents` draws the factors of a video, `music` and `frames` make samples and frames of them, `encode` a file;
`python -m data.render` renders a whole set. This file plans one video and renders it: it writes that video.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.pipeline import Render
from data.render import encode, frames, latents, music


@dataclass(frozen=True)
class Video:
    """The plan of one video. `frames / fps` is its duration in seconds, that of both streams."""

    index: int
    container: str
    fps: int
    frames: int
    song: latents.Song

    @property
    def video_id(self) -> str:
        """Id of the video."""
        return video_id(self.index)

    @property
    def name(self) -> str:
        """The file's name within its folder."""
        return f"{self.video_id}.{self.container}"

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.fps


def video_id(index: int) -> str:
    """Return the id of the video with this index."""
    return f"song{index:05d}"


def plan(render: Render, index: int) -> Video:
    """Return the plan of video `index`: a pure function of the index and of `render` without its number of videos.

    Every eighth video is WebM; frame rates are 12, sometimes 15 or 25 per second.
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
    audio = music.render(video.song.audio, video.seconds, rate, latents.generator(render.seed, latents.MUSIC, index))
    images = frames.render(
        video.song.video, video.frames, video.fps, latents.generator(render.seed, latents.SCENES, index)
    )
    path = folder / video.name
    encode.write(path, video.container, images, video.fps, audio)
    return path
