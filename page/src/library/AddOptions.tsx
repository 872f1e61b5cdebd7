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

/** What is to be made of the songs that are added next; undefined leaves all to the server. */
export function chosenOptions(many = false): ProcessingOptions | undefined {
  if (!model.value && !quality.value && !language.value && !many) return undefined;
  const separation: SeparationChoice = { model: model.value };
  if (quality.value) separation.quality = quality.value as NonNullable<SeparationChoice["quality"]>;
  const analyses = PARTS.map((part) => (part === "PART_LYRICS" ? { part, language: language.value } : { part }));
  return { separations: [separation], analyses, ...(many && { priority: "PRIORITY_BATCH" }) };
}

/** How the next songs are to be made, for those who want to say so. */
export function AddOptions() {
  useEffect(() => {
    call<{ models: Model[] }>("GET", "/models")
      .then((answer) => (models.value = answer.models))
      .catch(fail);
  }, []);
  const standard = models.value.find((each) => each.default);
  return (
    <details class="options">
      <summary>How to make them</summary>
      <div class="row">
        <label>
          Stems
          <select value={model} onChange={(event) => (model.value = event.currentTarget.value)}>
            <option value="">best here{standard && ` (${standard.name})`}</option>
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
