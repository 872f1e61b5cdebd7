import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { Invitations } from "./Invitations.tsx";
import { Keys } from "./Keys.tsx";
import { Logs } from "./Logs.tsx";
import { Models } from "./Models.tsx";
import { Storage } from "./Storage.tsx";
import { Users } from "./Users.tsx";
import { Work } from "./Work.tsx";

const SECTIONS: { name: string; title: string; panels: ComponentType[] }[] = [
  { name: "", title: "Users", panels: [Users, Invitations] },
  { name: "work", title: "Work", panels: [Work] },
  { name: "storage", title: "Storage", panels: [Storage] },
  { name: "models", title: "Models", panels: [Models] },
  { name: "logs", title: "Logs", panels: [Logs] },
  { name: "keys", title: "Keys", panels: [Keys] },
];

/** The operator's view, section by section. */
export function AdminView({ section }: { section: string }) {
  const { title, panels } = SECTIONS.find(({ name }) => name === section) ?? SECTIONS[0]!;
  useEffect(() => {
    document.title = `${title} – StemTube`;
  }, [title]);
  return (
    <div class="panels">
      <h1>Admin</h1>
      <nav class="tabs" aria-label="Sections">
        {SECTIONS.map(({ name, title: label }) => (
          <a key={name} href={name ? `/admin/${name}` : "/admin"} aria-current={label === title ? "page" : undefined}>
            {label}
          </a>
        ))}
      </nav>
      {panels.map((View, index) => (
        <View key={`${section} ${index}`} />
      ))}
    </div>
  );
}
