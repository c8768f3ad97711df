declare module 'm3u8-parser' {
  export interface Part {
    duration: number;
    uri: string;
    independent?: boolean;
  }
  export interface Manifest {
    version?: number;
    endList?: boolean;
    targetDuration?: number;
    mediaSequence?: number;
    playlistType?: string;
    segments: { uri: string; duration: number; parts?: Part[]; map?: { uri: string }; preloadHints?: { uri: string; type: string }[]; dateTimeObject?: Date }[];
    playlists?: { uri: string; attributes: { BANDWIDTH: number; CODECS: string; RESOLUTION?: { width: number; height: number }; AUDIO?: string } }[];
    mediaGroups: { AUDIO: Record<string, Record<string, { uri: string }>> };
    serverControl?: { canBlockReload: boolean; partHoldBack: number };
    partTargetDuration?: number;
    preloadSegment?: { parts?: Part[]; preloadHints?: { uri: string; type: string }[] };
  }
  export class Parser {
    manifest: Manifest;
    push(text: string): void;
    end(): void;
  }
}
