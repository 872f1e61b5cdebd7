import { useEffect, useRef, useState } from "preact/hooks";
import { drawWave, fetchPeaks, type Peaks } from "../audio/peaks.ts";
import { fail } from "../parts/toasts.tsx";

/** The waveform of a stem over the whole song, from its stored peaks. */
export function Wave(properties: { path: string; duration: number; hue: number; muted: boolean }) {
  const { path, duration, hue, muted } = properties;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [peaks, setPeaks] = useState<Peaks>();
  useEffect(() => {
    if (!path) return undefined;
    const stop = new AbortController();
    fetchPeaks(path, stop.signal).then(setPeaks).catch(fail);
    return () => stop.abort();
  }, [path]);
  useEffect(() => {
    if (!peaks || !canvas.current) return undefined;
    const draw = () => canvas.current && drawWave(canvas.current, peaks, duration);
    const watcher = new ResizeObserver(draw);
    watcher.observe(canvas.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    return () => {
      watcher.disconnect();
      scheme.removeEventListener("change", draw);
    };
  }, [peaks, duration]);
  return <canvas ref={canvas} class={`wave hue-${hue % 6}${muted ? " muted" : ""}`} aria-hidden="true" />;
}
