import { useSignal } from "@preact/signals";
import { clock, words } from "../parts/format.ts";
import { fail } from "../parts/toasts.tsx";
import { SectionDialog } from "./EditDialogs.tsx";
import { repeat } from "./loops.ts";
import type { Practice } from "./practice.ts";

/** The song's sections: a click goes there, a double click repeats one, the context menu (or E) corrects it. */
export function SectionBar({ practice }: { practice: Practice }) {
  const { sections, durationSeconds } = practice.track.value!;
  const editing = useSignal<number | null>(null);
  const current = practice.section.value;
  if (!sections.length) return <div class="sections" />;
  return (
    <div class="sections">
      <div class="controls faint">
        <span class="stem">Sections</span>
        <button
          class="plain edit"
          aria-label="Correct this section"
          title="Correct the section that is heard now"
          onClick={() => (editing.value = Math.max(current, 0))}
        >
          ✎
        </button>
        <span class="volume">Volume</span>
        <span class="pan">Pan</span>
        <span class="meter-head">Level</span>
      </div>
      <ol aria-label="Sections">
        {sections.map((section, index) => (
          <li
            key={index}
            class={`group-${section.group % 6}`}
            style={{ width: `${((section.end - section.start) / durationSeconds) * 100}%` }}
          >
            <button
              aria-current={index === current ? "true" : undefined}
              title={`${words(section.label)}, ${clock(section.start)}. Double-click: repeat. E: correct`}
              onClick={() => practice.player.value?.seek(section.start).catch(fail)}
              onDblClick={() => repeat(practice, section)}
              onContextMenu={(event) => {
                event.preventDefault();
                editing.value = index;
              }}
              onKeyDown={(event) => {
                if (event.key === "e") editing.value = index;
                if (event.key === "l") repeat(practice, section);
                if (event.key === "e" || event.key === "l") event.stopPropagation();
              }}
            >
              {words(section.label)}
            </button>
          </li>
        ))}
      </ol>
      {editing.value !== null && (
        <SectionDialog practice={practice} index={editing.value} onClose={() => (editing.value = null)} />
      )}
    </div>
  );
}
