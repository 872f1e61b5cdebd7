import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api/client.ts";
import { PARTS } from "../api/contract.ts";
import type { Model, ProcessingOptions, SeparationChoice } from "../api/types.ts";
import { fail } from "../parts/toasts.tsx";

const models = signal<Model[]>([]);
const model = signal("");
const quality = signal("");
const language = signal("");

/** Options for the songs that are added next; undefined means the server's defaults. */
export function chosenOptions(many = false): ProcessingOptions | undefined {
  if (!model.value && !quality.value && !language.value && !many) return undefined;
  const separation: SeparationChoice = { model: model.value };
  if (quality.value) separation.quality = quality.value as NonNullable<SeparationChoice["quality"]>;
  const analyses = PARTS.map((part) => (part === "PART_LYRICS" ? { part, language: language.value } : { part }));
  return { separations: [separation], analyses, ...(many && { priority: "PRIORITY_BATCH" }) };
}

/** Options for the next songs. */
export function AddOptions() {
  useEffect(() => {
    call<{ models: Model[] }>("GET", "/models")
      .then((answer) => (models.value = answer.models))
      .catch(fail);
  }, []);
  const standard = models.value.find((each) => each.default);
  return (
    <details class="options">
      <summary>Options</summary>
      <div class="row">
        <label>
          Stems
          <select value={model} onChange={(event) => (model.value = event.currentTarget.value)}>
            <option value="">best available{standard && ` (${standard.name})`}</option>
            {models.value.map(({ name, stems, availability }) => (
              <option key={name} value={name} disabled={!availability.available} title={availability.unavailableReason}>
                {name}: {stems.join(", ")}
              </option>
            ))}
          </select>
        </label>
        <label>
          Quality
          <select value={quality} onChange={(event) => (quality.value = event.currentTarget.value)}>
            <option value="">balanced</option>
            <option value="QUALITY_FAST">fast</option>
            <option value="QUALITY_BEST">best</option>
          </select>
        </label>
        <label>
          Language
          <input
            size={4}
            maxLength={3}
            placeholder="auto"
            value={language}
            onInput={(event) => (language.value = event.currentTarget.value.trim().toLowerCase())}
          />
        </label>
      </div>
    </details>
  );
}
