export function AdminView() { return <p>soon</p>; }
