/** A secret that is shown once and can be selected with a click; nothing while there is none. */
export function Secret({ text, secret }: { text: string; secret: string }) {
  return (
    <p class="secret" role="status">
      {secret && (
        <>
          {text}, which is shown this once: <code>{secret}</code>
        </>
      )}
    </p>
  );
}
