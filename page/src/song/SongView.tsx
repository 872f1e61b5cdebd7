export function SongView({ id }: { id: string }) { return <p>{id}</p>; }
