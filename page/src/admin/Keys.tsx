import { call } from "../api/client.ts";
import { Panel } from "../parts/Panel.tsx";
import { fail, tell } from "../parts/toasts.tsx";

/** The key that signs access tokens. */
export function Keys() {
  const rotate = (withdrawOlder: boolean) =>
    call("POST", "/admin/signing-keys", { withdrawOlder })
      .then(() => tell(withdrawOlder ? "Only the new key is valid now." : "There is a new key. It will sign tokens in two minutes."))
      .catch(fail);
  return (
    <Panel title="Signing key">
      <p>
        Access tokens are signed with a key. It can be replaced at any time, and no user notices. Older keys are valid until
        their last token has expired.
      </p>
      <button onClick={() => rotate(false)}>Make a new key</button>
      <p>
        If a key has leaked, withdraw the older ones as well: all access tokens end at once, and everybody's page gets a new one by
        itself.
      </p>
      <button onClick={() => rotate(true)}>Make a new key and withdraw the older ones</button>
    </Panel>
  );
}
