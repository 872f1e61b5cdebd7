/** Diagrams of a chord on a guitar and on a keyboard. */

import { useEffect, useState } from "preact/hooks";
import { tonesOf, type ParsedChord } from "../music/harte.ts";
import type { Shape } from "../music/shapes.ts";
import { fail } from "../parts/toasts.tsx";

const STRINGS = 6;
const FRETS = 4;
const WHITE = [0, 2, 4, 5, 7, 9, 11];
const BLACK: [number, number][] = [
  [1, 1],
  [3, 2],
  [6, 4],
  [8, 5],
  [10, 6],
];

/** A chord on the guitar; further clicks show other positions. */
export function GuitarDiagram({ chord, name }: { chord: ParsedChord; name: string }) {
  const [shapes, setShapes] = useState<Shape[]>([]);
  const [chosen, setChosen] = useState(0);
  const { root, quality } = chord;
  useEffect(() => {
    let isCurrent = true;
    // A quarter of a megabyte that pianists do not need.
    import("../music/shapes.ts")
      .then(({ guitarShapes }) => isCurrent && setShapes(guitarShapes(chord)))
      .catch(fail);
    setChosen(0);
    return () => {
      isCurrent = false;
    };
  }, [root, quality]);
  const shape = shapes[chosen % (shapes.length || 1)];
  if (!shape) return null;
  return (
    <button
      class="plain diagram"
      aria-label={`${name} on the guitar: ${described(shape)}. Another position`}
      onClick={() => setChosen(chosen + 1)}
    >
      <Fretboard shape={shape} />
    </button>
  );
}

function described({ frets, baseFret }: Shape): string {
  return frets.map((fret) => (fret < 0 ? "x" : fret === 0 ? "0" : String(fret + baseFret - 1))).join(" ");
}

function Fretboard({ shape }: { shape: Shape }) {
  const x = (string: number) => 16 + string * 12;
  const y = (fret: number) => 16 + fret * 15;
  return (
    <svg viewBox="0 0 96 84" width="96" height="84" aria-hidden="true">
      {Array.from({ length: STRINGS }, (_, string) => (
        <line key={string} x1={x(string)} x2={x(string)} y1={y(0)} y2={y(FRETS)} stroke="currentColor" />
      ))}
      {Array.from({ length: FRETS + 1 }, (_, fret) => (
        <line
          key={fret}
          x1={x(0)}
          x2={x(STRINGS - 1)}
          y1={y(fret)}
          y2={y(fret)}
          stroke="currentColor"
          stroke-width={fret === 0 && shape.baseFret === 1 ? 3 : 1}
        />
      ))}
      {shape.baseFret > 1 && (
        <text x="0" y={y(1)} font-size="10" fill="currentColor">
          {shape.baseFret}
        </text>
      )}
      {shape.frets.map((fret, string) =>
        fret > 0 ? (
          <circle key={string} cx={x(string)} cy={y(fret) - 7.5} r="5" fill="currentColor" />
        ) : (
          <text key={string} x={x(string)} y="11" font-size="10" text-anchor="middle" fill="currentColor">
            {fret < 0 ? "×" : "○"}
          </text>
        ),
      )}
    </svg>
  );
}

/** A chord on two octaves of a keyboard, with its bass at the left. */
export function PianoDiagram({ chord, name }: { chord: ParsedChord; name: string }) {
  const [bass, ...others] = tonesOf(chord);
  const keys = new Set([bass!, ...others.map((tone) => (tone < bass! ? tone + 12 : tone))]);
  const fill = (key: number, plain: string) => (keys.has(key) ? "var(--accent)" : plain);
  return (
    <svg viewBox="0 0 140 50" width="168" height="60" role="img" aria-label={`${name} on the piano`}>
      {[0, 12].flatMap((octave) =>
        WHITE.map((pitch, index) => (
          <rect
            key={octave + pitch}
            x={(octave / 12) * 70 + index * 10}
            y="0"
            width="10"
            height="50"
            fill={fill(octave + pitch, "#fff")}
            stroke="#444"
          />
        )),
      )}
      {[0, 12].flatMap((octave) =>
        BLACK.map(([pitch, after]) => (
          <rect
            key={octave + pitch}
            x={(octave / 12) * 70 + after * 10 - 3}
            y="0"
            width="6"
            height="30"
            fill={fill(octave + pitch, "#222")}
            stroke="#444"
          />
        )),
      )}
    </svg>
  );
}
